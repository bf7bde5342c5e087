# Rules that install the headers and a CMake package, so that `find_package(tiedlora 0.1)` gives tiedlora::tiedlora.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(tiedlora_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/tiedlora) # share/, not lib/: nothing in it depends on the machine

install(TARGETS tiedlora EXPORT tiedloraTargets FILE_SET HEADERS)
install(EXPORT tiedloraTargets NAMESPACE tiedlora:: DESTINATION ${tiedlora_package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/tiedloraConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/tiedloraConfig.cmake INSTALL_DESTINATION ${tiedlora_package_dir})
# Before 1.0 a minor version may break hosts, so 0.2 does not satisfy a request for 0.1.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tiedloraConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/tiedloraConfig.cmake ${PROJECT_BINARY_DIR}/tiedloraConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/tiedlora-find-eigen.cmake DESTINATION ${tiedlora_package_dir})
