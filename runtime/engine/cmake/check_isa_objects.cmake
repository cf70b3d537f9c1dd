# Objects with the flags of an instruction set must not define weak symbols (inline functions, instances of templates):
# a linker may take such a definition for the whole program, and it would then run on machines that lack the instructions.
#   cmake -DNM=nm -DOBJECTS=a.o|b.o -P check_isa_objects.cmake
string(REPLACE "|" ";" OBJECTS "${OBJECTS}")
if(NOT OBJECTS)
  message(FATAL_ERROR "no objects of instruction sets")
endif()
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} --defined-only ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
  string(REGEX MATCHALL "[^\n]* [uVWvw] [^\n]*" weak "${symbols}")
  list(FILTER weak EXCLUDE REGEX "DW\\.ref\\.")  # of exceptions, data alone
  if(failed OR NOT symbols)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  elseif(weak)
    message(FATAL_ERROR "${object} defines weak symbols, make them static: ${weak}")
  endif()
endforeach()
