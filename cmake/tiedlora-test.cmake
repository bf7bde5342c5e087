include(GoogleTest)

# tiedlora_test(name source...): one GoogleTest program, each of its tests known to ctest as name.Suite.Test.
# Helpers are included as "support/….hpp"; TIEDLORA_GOLDEN_DIR is the folder of committed reference values.
function(tiedlora_test name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE tiedlora_development GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE TIEDLORA_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 120)
endfunction()
