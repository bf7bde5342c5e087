# Rules that install the headers and a CMake package, so that `find_package(tiedlora 0.1)` gives tiedlora::tiedlora,
# tiedlora::io where nlohmann/json is there, and tiedlora::c where it was built.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(tiedlora_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/tiedlora) # share/, not lib/: nothing in it depends on the machine
set(tiedlora_c_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tiedlora) # for tiedlora::c and tiedlora::dispatch, which do

install(TARGETS tiedlora EXPORT tiedloraTargets FILE_SET HEADERS)
install(EXPORT tiedloraTargets NAMESPACE tiedlora:: DESTINATION ${tiedlora_package_dir})
# In a file of its own: it names a target of nlohmann/json, which who wants only the core need not have.
if(TARGET tiedlora_io)
  install(TARGETS tiedlora_io EXPORT tiedloraIoTargets FILE_SET HEADERS)
  install(EXPORT tiedloraIoTargets NAMESPACE tiedlora:: DESTINATION ${tiedlora_package_dir})
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/tiedloraConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/tiedloraConfig.cmake INSTALL_DESTINATION ${tiedlora_package_dir}
                              PATH_VARS tiedlora_c_package_dir)
# Before 1.0 a minor version may break hosts, so 0.2 does not satisfy a request for 0.1.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tiedloraConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/tiedloraConfig.cmake ${PROJECT_BINARY_DIR}/tiedloraConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/tiedlora-find-eigen.cmake DESTINATION ${tiedlora_package_dir})

# For pkg-config. The prefix follows from where the file lies, so that an installed tree may be moved.
file(RELATIVE_PATH tiedlora_pc_prefix /${CMAKE_INSTALL_DATADIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" tiedlora_pc_prefix ${tiedlora_pc_prefix})
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(tiedlora_pc_includedir ${CMAKE_INSTALL_INCLUDEDIR})
else()
  set(tiedlora_pc_includedir \${prefix}/${CMAKE_INSTALL_INCLUDEDIR})
endif()
set(tiedlora_pc_names tiedlora)
if(TARGET tiedlora_io)
  list(APPEND tiedlora_pc_names tiedlora-io)
endif()
foreach(name IN LISTS tiedlora_pc_names)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
endforeach()
