# Toolchain file: Windows on another machine. Debian's MinGW-w64 compiles, LLD links, Wine runs (packages
# g++-mingw-w64-x86-64-posix, clang-19, lld-19 and wine64).
if(CMAKE_CXX_COMPILER_LOADED)
  # Second reading, after project(): the headers of libraries that are headers alone are those of this machine, which has
  # them beside its own C library's. Looked for last, those never stand in for MinGW's.
  list(APPEND CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES /usr/include)
  # MinGW's own linker takes minutes for a program of this many inline functions, LLD a tenth of a second. Debian's g++ calls
  # no other linker than its own; Clang finds GCC's libraries, and lacks the one of its threads.
  set(CMAKE_CXX_LINK_EXECUTABLE "clang++-19 --target=x86_64-w64-mingw32 -fuse-ld=lld <LINK_FLAGS> <OBJECTS> -o <TARGET> \
<LINK_LIBRARIES> -lpthread")
  return()
endif()
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix) # GoogleTest asks for it
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_CXX_FLAGS_INIT "-idirafter /usr/include -Wa,-mbig-obj")
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
# Wine's registry and drive C: lie in the build folder. No Mono, no Gecko: nothing here is for them.
find_program(tiedlora_wine NAMES wine64 wine HINTS /usr/lib/wine)
set(CMAKE_CROSSCOMPILING_EMULATOR env WINEPREFIX=${CMAKE_BINARY_DIR}/wine WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml=
    ${tiedlora_wine})
set(CMAKE_PROJECT_INCLUDE ${CMAKE_CURRENT_LIST_FILE})
