# Finds Eigen 3.4 or any 5.x, for the build tree and for the installed package alike.
#
# One call cannot say that: `find_package(Eigen3 3.4)` refuses 5.x, and the version file of 3.4.0 (Debian 12's)
# refuses every range that reaches beyond 3. So the range is tried quietly, then the plain version.
# A host that brings its own Eigen3::Eigen (FetchContent, add_subdirectory) keeps it.
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 3.4...<6 QUIET NO_MODULE)
endif()
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 3.4 QUIET NO_MODULE)
endif()
