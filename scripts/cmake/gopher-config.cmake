# gopher-config.cmake - find_package(gopher) for probes that are built outside the tree.
# SPDX-License-Identifier: Apache-2.0
get_filename_component(GOPHER_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_path(GOPHER_INCLUDE_DIR gopher/probe.h HINTS ${GOPHER_PREFIX}/include ${GOPHER_PREFIX}/../include
          REQUIRED)
include(${CMAKE_CURRENT_LIST_DIR}/GopherBpf.cmake)
if(NOT TARGET gopher_contract)
  add_library(gopher_contract INTERFACE)
  target_include_directories(gopher_contract INTERFACE ${GOPHER_INCLUDE_DIR})
  target_compile_features(gopher_contract INTERFACE cxx_std_20)
  target_compile_options(gopher_contract INTERFACE -fvisibility=hidden)
endif()
