# Install rules: header, libraries, executable, a CMake package and a pkg-config file. `cmake --install --component`
# takes `runtime` (shared library), `tools` (executable) or `development` (all else).
include(CMakePackageConfigHelpers)

set(MLLM_PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/mindir_llm)
install(TARGETS mindir_llm mindir_llm_static EXPORT mindir_llm
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(FILES include/mindir_llm.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
if(TARGET mindir_llm_cli)
  install(TARGETS mindir_llm_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  install(FILES cli/mindir-llm.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT tools)
endif()

install(EXPORT mindir_llm NAMESPACE mindir_llm:: FILE mindir_llm-targets.cmake
  DESTINATION ${MLLM_PACKAGE_FOLDER} COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/mindir_llm-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/mindir_llm-config.cmake INSTALL_DESTINATION ${MLLM_PACKAGE_FOLDER})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/mindir_llm-config-version.cmake
  COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mindir_llm-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/mindir_llm-config-version.cmake
  DESTINATION ${MLLM_PACKAGE_FOLDER} COMPONENT development)

# An installed tree can be moved: the file finds its prefix from where it lies.
file(RELATIVE_PATH MLLM_PREFIX_FROM_PKGCONFIG
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" MLLM_PREFIX_FROM_PKGCONFIG "${MLLM_PREFIX_FROM_PKGCONFIG}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/mindir_llm.pc.in ${CMAKE_CURRENT_BINARY_DIR}/mindir_llm.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mindir_llm.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
