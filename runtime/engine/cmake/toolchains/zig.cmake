# Builds with Zig's C++ compiler (PyPI: ziglang), which is Clang with the start files and symbols of every glibc and a
# C++ runtime that is linked in: what comes out runs on systems that are older than the one it was built on.
#   cmake -DCMAKE_TOOLCHAIN_FILE=…/zig.cmake [-DMLLM_ZIG=…/zig] [-DMLLM_ZIG_MACHINE=aarch64] [-DMLLM_ZIG_GLIBC=2.28]
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MLLM_ZIG MLLM_ZIG_MACHINE MLLM_ZIG_GLIBC)
set(MLLM_ZIG_GLIBC 2.28 CACHE STRING "The oldest glibc that what is built shall run with")
set(MLLM_ZIG_MACHINE x86_64 CACHE STRING "x86_64 or aarch64")
find_program(MLLM_ZIG zig REQUIRED)

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${MLLM_ZIG_MACHINE})
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER ${MLLM_ZIG})
  set(CMAKE_${language}_COMPILER_TARGET ${MLLM_ZIG_MACHINE}-linux-gnu.${MLLM_ZIG_GLIBC})
endforeach()
set(CMAKE_C_COMPILER_ARG1 cc)
set(CMAKE_CXX_COMPILER_ARG1 c++)

# The archiver of this machine need not know other machines' objects.
foreach(language C CXX)
  set(CMAKE_${language}_ARCHIVE_CREATE "\"${MLLM_ZIG}\" ar qcs <TARGET> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_APPEND "\"${MLLM_ZIG}\" ar qs <TARGET> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_FINISH "")
endforeach()

set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE NEVER)
