# Finds oneDNN and makes the target minimx_onednn. It comes from the PyPI wheels onednn-devel-cpu-gomp (headers) and
# onednn-cpu-gomp (libdnnl.so, SONAME libdnnl.so.3); where pip put them is what minimx/libraries.py knows.
execute_process(
  COMMAND ${MINIMX_RUN_BARE} minimx.libraries onednn
  OUTPUT_VARIABLE MINIMX_ONEDNN_PATHS
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "oneDNN was not found beside ${Python_EXECUTABLE}: see the line above.")
endif()
list(GET MINIMX_ONEDNN_PATHS 0 MINIMX_ONEDNN_INCLUDE)
list(GET MINIMX_ONEDNN_PATHS 1 MINIMX_ONEDNN_LIBRARY)
message(STATUS "oneDNN: ${MINIMX_ONEDNN_INCLUDE}, ${MINIMX_ONEDNN_LIBRARY}")

add_library(minimx_onednn SHARED IMPORTED)
set_target_properties(
  minimx_onednn PROPERTIES IMPORTED_LOCATION "${MINIMX_ONEDNN_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES
                           "${MINIMX_ONEDNN_INCLUDE}")
