# Finds oneDNN and makes the target minimx_onednn. It comes from the PyPI wheels onednn-devel-cpu-gomp (headers) and
# onednn-cpu-gomp (libdnnl.so, SONAME libdnnl.so.3), which unpack into <prefix>/include and <prefix>/lib. Which prefix
# that is depends on the installer (a venv, pip's build overlay, --target, --user), so their own metadata is asked.
execute_process(
  COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/onednn_paths.py"
  OUTPUT_VARIABLE MINIMX_ONEDNN_PATHS
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "oneDNN: expected the packages onednn-devel-cpu-gomp and onednn-cpu-gomp beside "
                      "${Python_EXECUTABLE}, got neither or one. Install both there with pip.")
endif()
list(GET MINIMX_ONEDNN_PATHS 0 MINIMX_ONEDNN_INCLUDE)
list(GET MINIMX_ONEDNN_PATHS 1 MINIMX_ONEDNN_LIBRARY)
message(STATUS "oneDNN: ${MINIMX_ONEDNN_INCLUDE}, ${MINIMX_ONEDNN_LIBRARY}")

add_library(minimx_onednn SHARED IMPORTED)
set_target_properties(
  minimx_onednn PROPERTIES IMPORTED_LOCATION "${MINIMX_ONEDNN_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES
                           "${MINIMX_ONEDNN_INCLUDE}")
