# `cpack -G DEB` in the build folder makes libtiedlora-dev_VERSION_all.deb: headers, CMake package, pkg-config. The C
# interface, which depends on the machine, is not in it. With SOURCE_DATE_EPOCH set, for configuring too, the same
# tree gives the same bytes.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME libtiedlora-dev)
set(CPACK_PACKAGE_CONTACT "The tiedlora authors <maintainers@tiedlora.example.org>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
                                                WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= 3.4)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "nlohmann-json3-dev (>= 3.11.2)") # for tiedlora::io
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "low-rank adapters tied across layers, C++20 headers")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "Tied-LoRA, LoRA, VeRA and their relatives as values of one type, forward and
backward, on raw memory or Eigen's matrices; files of PEFT and llama.cpp.")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz) # gzip's header has the time in it
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/tiedlora-package-times.cmake)

# What Debian wants beside the files: who may copy them, and a changelog in its own form.
file(READ ${PROJECT_SOURCE_DIR}/LICENSE license)
string(REGEX MATCH "Copyright \\(c\\) ([^\n]+)" copyright "${license}")
set(copyright ${CMAKE_MATCH_1})
string(REGEX REPLACE "^.*Copyright[^\n]*\n\n" "" license "${license}")
string(STRIP "${license}" license)
string(REPLACE "\n\n" "\n.\n" license "${license}")
string(REPLACE "\n" "\n " license "${license}")
file(WRITE ${PROJECT_BINARY_DIR}/debian/copyright
     "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tiedlora

Files: *
Copyright: ${copyright}
License: Expat
 ${license}
")
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE ${PROJECT_BINARY_DIR}/debian/changelog
     "tiedlora (${PROJECT_VERSION}) unstable; urgency=medium

  * Upstream's CHANGELOG.md says what is new.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
find_program(GZIP gzip)
if(GZIP)
  execute_process(COMMAND ${GZIP} -9nf ${PROJECT_BINARY_DIR}/debian/changelog)
  install(FILES ${PROJECT_BINARY_DIR}/debian/copyright ${PROJECT_BINARY_DIR}/debian/changelog.gz
          DESTINATION share/doc/libtiedlora-dev COMPONENT tiedlora_debian EXCLUDE_FROM_ALL)
endif()
# Without the component of the C interface.
set(CPACK_INSTALL_CMAKE_PROJECTS ${PROJECT_BINARY_DIR} tiedlora Unspecified / # and what only this package has
                                 ${PROJECT_BINARY_DIR} tiedlora tiedlora_debian /)
include(CPack)
