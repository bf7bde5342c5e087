# Finds Eigen 3.4 or later (5.x too), for the build tree and for the installed package alike. Leaves what is wrong, if
# anything, in tiedlora_eigen_error.
#
# Asks for no version and looks at what was found: `find_package(Eigen3 3.4)` refuses 5.x, the version file of 3.4.0
# (Debian 12's) refuses every range that reaches beyond 3, and a second call after a refusal would have forgotten
# the Eigen3_DIR that the user gave. A host that brings its own Eigen3::Eigen (FetchContent, add_subdirectory) keeps it.
set(tiedlora_eigen_error "")
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 QUIET NO_MODULE)
  if(NOT Eigen3_FOUND)
    set(tiedlora_eigen_error "tiedlora needs Eigen 3.4 or later and finds none (Debian and Ubuntu: libeigen3-dev). \
If it is installed elsewhere, point CMAKE_PREFIX_PATH or Eigen3_DIR there.")
  elseif(Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.4) # FetchContent's OVERRIDE_FIND_PACKAGE says no version
    set(tiedlora_eigen_error "tiedlora needs Eigen 3.4 or later and finds ${Eigen3_VERSION} in ${Eigen3_DIR}. \
Point Eigen3_DIR to a newer one.")
  endif()
endif()
