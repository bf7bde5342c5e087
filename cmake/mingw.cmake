# Toolchain file: Windows on another machine. Debian's MinGW-w64 builds, Wine runs (packages g++-mingw-w64-x86-64-posix and
# wine64).
if(CMAKE_CXX_COMPILER_LOADED)
  # Second reading, after project(): the headers of libraries that are headers alone are those of this machine, which has
  # them beside its own C library's. Looked for last, those never stand in for MinGW's.
  list(APPEND CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES /usr/include)
  return()
endif()
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix) # GoogleTest asks for it
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_CXX_FLAGS_INIT "-idirafter /usr/include -Wa,-mbig-obj")
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR env WINEDEBUG=-all wine)
set(CMAKE_PROJECT_INCLUDE ${CMAKE_CURRENT_LIST_FILE})
