# Builds for armv7 Linux with Debian's compiler (g++-arm-linux-gnueabihf); runs what it built with qemu-user, where that is.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(MLLM_TRIPLE arm-linux-gnueabihf)
include(${CMAKE_CURRENT_LIST_DIR}/debian.cmake)
