# Decides whether the CUDA part, the extension module minimx._cuda of csrc/cuda, is built, and makes the target
# minimx_cuda_toolkit: headers of CUDA, cuBLASLt, cuDNN and cudnn_frontend. Headers only: every library is opened at run
# time, and no nvcc is needed. Where headers are looked for is what minimx/libraries.py knows.
set(MINIMX_CUDA "auto" CACHE STRING "Build minimx._cuda: on, off, or auto (where its headers are found)")
set(MINIMX_CUDA_INCLUDE "" CACHE STRING "Folders to search for CUDA's and cudnn_frontend's headers before all others")

set(MINIMX_BUILD_CUDA FALSE)
string(TOLOWER "${MINIMX_CUDA}" cuda)
if(NOT cuda MATCHES "^(auto|on|off|1|0)$")
  message(FATAL_ERROR "MINIMX_CUDA: expected auto, on or off, got ${MINIMX_CUDA}.")
elseif(cuda MATCHES "^(off|0)$")
  message(STATUS "CUDA part: off")
  return()
endif()

execute_process(
  COMMAND ${MINIMX_RUN_BARE} minimx.libraries cuda-headers ${MINIMX_CUDA_INCLUDE}
  OUTPUT_VARIABLE folders
  ERROR_VARIABLE missing
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  if(NOT cuda STREQUAL "auto")
    message(FATAL_ERROR "${missing}")
  endif()
  message(STATUS "CUDA part: not built. ${missing}")
  return()
endif()

message(STATUS "CUDA part: ${folders}")
set(MINIMX_BUILD_CUDA TRUE)
add_library(minimx_cuda_toolkit INTERFACE)
target_include_directories(minimx_cuda_toolkit SYSTEM INTERFACE ${folders})
target_compile_definitions(minimx_cuda_toolkit INTERFACE NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING)
target_link_libraries(minimx_cuda_toolkit INTERFACE ${CMAKE_DL_LIBS})
