# Builds for aarch64 Linux with Debian's compiler (g++-aarch64-linux-gnu); runs what it built with qemu-user, where that is.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(MLLM_TRIPLE aarch64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
