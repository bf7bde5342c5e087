include(FetchContent)
include(GoogleTest)

# For another machine than this one, and for libc++, Debian has GoogleTest's sources only.
if(CMAKE_CROSSCOMPILING OR CMAKE_CXX_FLAGS MATCHES "-stdlib=libc\\+\\+")
  set(INSTALL_GTEST OFF)
  FetchContent_Declare(googletest SOURCE_DIR /usr/src/googletest)
  FetchContent_MakeAvailable(googletest)
else()
  find_package(GTest REQUIRED)
endif()

# Compiling tests takes far longer than running them, but for a few that compute a lot themselves; with sanitizers compiling
# takes longer there, too.
set(tiedlora_test_options $<$<CONFIG:RelWithDebInfo>:-O0>)
set(tiedlora_computing_test_options $<$<CONFIG:RelWithDebInfo>:-O1>)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  set(tiedlora_computing_test_options ${tiedlora_test_options})
  set(tiedlora_kernel_options ${tiedlora_test_options})
endif()

# tiedlora_compile_as_tests(target...): for what takes long to compile and little to run. Under this project's presets alone:
# with other flags somebody may install or measure what is built.
function(tiedlora_compile_as_tests)
  if(CMAKE_CXX_FLAGS_RELWITHDEBINFO MATCHES "^-O1( -g1)?$")
    foreach(target IN LISTS ARGN)
      target_compile_options(${target} PRIVATE ${tiedlora_test_options})
    endforeach()
  endif()
endfunction()

# The kernels, compiled once for all tests, and optimised as the preset says. In a test that is not optimised itself nothing is
# inlined: what it runs is this code and no other.
add_library(tiedlora_kernel_instances STATIC)
foreach(part IN ITEMS float half bfloat16 loops)
  target_sources(tiedlora_kernel_instances PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/kernel_instances_${part}.cpp)
endforeach()
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize") # tests compare with the loops for longer than those take to compile
  set_source_files_properties(${PROJECT_SOURCE_DIR}/tests/support/kernel_instances_loops.cpp PROPERTIES COMPILE_OPTIONS -O1)
endif()
target_include_directories(tiedlora_kernel_instances PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(tiedlora_kernel_instances PRIVATE tiedlora_development)
target_compile_options(tiedlora_kernel_instances PRIVATE ${tiedlora_kernel_options})

# What nearly every test includes and takes seconds to parse, parsed once for each set of flags, and which kernels are
# compiled elsewhere.
function(tiedlora_add_test_headers name)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp "")
  add_library(${name} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE tiedlora_development GTest::gtest_main)
  target_compile_options(${name} PRIVATE ${ARGN})
  target_precompile_headers(${name} PRIVATE <gtest/gtest.h> <Eigen/Core> <filesystem> <functional> <random>
                            ${PROJECT_SOURCE_DIR}/tests/support/kernel_instances.hpp)
endfunction()
tiedlora_add_test_headers(tiedlora_test_headers ${tiedlora_test_options})
tiedlora_add_test_headers(tiedlora_computing_test_headers ${tiedlora_computing_test_options})

# tiedlora_test(name source... [LABEL label] [OPTIMISED]): one GoogleTest program, each of its tests known to ctest as
# name.Suite.Test, where the name is without its _tests. OPTIMISED: it computes a lot.
# Helpers are included as "support/….hpp"; TIEDLORA_GOLDEN_DIR is the folder of committed reference values.
function(tiedlora_test name)
  cmake_parse_arguments(arg OPTIMISED LABEL "" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE tiedlora_development tiedlora_kernel_instances GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE TIEDLORA_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  if(arg_OPTIMISED)
    target_compile_options(${name} PRIVATE ${tiedlora_computing_test_options})
    target_precompile_headers(${name} REUSE_FROM tiedlora_computing_test_headers)
  else()
    target_compile_options(${name} PRIVATE ${tiedlora_test_options})
    target_precompile_headers(${name} REUSE_FROM tiedlora_test_headers)
  endif()
  string(REGEX REPLACE "_tests?$" "" prefix ${name})
  if(CMAKE_CROSSCOMPILING AND WIN32) # a program takes Wine half a second to start: all its tests at once
    add_test(NAME ${prefix}.all COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${prefix}.all PROPERTIES LABELS "${arg_LABEL}")
  else()
    gtest_discover_tests(${name} TEST_PREFIX ${prefix}. DISCOVERY_TIMEOUT 120 PROPERTIES LABELS "${arg_LABEL}")
  endif()
endfunction()
