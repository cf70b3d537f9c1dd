# What Debian's cross compilers have in common. Include it with MLLM_TRIPLE set.
set(CMAKE_C_COMPILER ${MLLM_TRIPLE}-gcc)
set(CMAKE_CXX_COMPILER ${MLLM_TRIPLE}-g++)
set(CMAKE_STRIP ${MLLM_TRIPLE}-strip)
set(CMAKE_FIND_ROOT_PATH /usr/${MLLM_TRIPLE})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

# QEMU names processors as GNU names targets, without what comes after the first dash.
string(REGEX REPLACE "-.*" "" MLLM_QEMU_NAME ${MLLM_TRIPLE})
find_program(MLLM_QEMU NAMES qemu-${MLLM_QEMU_NAME} qemu-${MLLM_QEMU_NAME}-static)
if(MLLM_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${MLLM_QEMU} -L /usr/${MLLM_TRIPLE})
endif()
