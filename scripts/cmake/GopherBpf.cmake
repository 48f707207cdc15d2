# GopherBpf.cmake - builds BPF objects, their skeletons, and probe plugins; used here and by others.
# SPDX-License-Identifier: Apache-2.0
find_program(GOPHER_BPF_CLANG NAMES clang-14 clang REQUIRED)
find_program(GOPHER_BPFTOOL NAMES bpftool PATHS /usr/sbin REQUIRED)
set(GOPHER_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})
# Rungs of one handler often do not look at their context.
set(GOPHER_BPF_FLAGS -g -O2 -Wall -Wextra -Werror -Wno-unused-parameter -target bpf -mcpu=v2)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(GOPHER_BPF_ARCH arm64)
else()
  set(GOPHER_BPF_ARCH x86)
endif()

# gopher_bpf(NAME SOURCE INCLUDE_DIRS...): target <NAME>_skel, whose header is <NAME>.skel.h. Outside of
# the tree the installed headers (GOPHER_INCLUDE_DIR) need not be named.
function(gopher_bpf name source)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${name})
  list(TRANSFORM ARGN PREPEND -I OUTPUT_VARIABLE includes)
  if(GOPHER_INCLUDE_DIR)
    list(APPEND includes -I${GOPHER_INCLUDE_DIR})
  endif()
  # Headers below asm/ are in the multiarch folder, which clang -target bpf does not search.
  if(CMAKE_LIBRARY_ARCHITECTURE)
    list(APPEND includes -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})
  endif()
  add_custom_command(
    OUTPUT ${out}.bpf.o
    COMMAND ${GOPHER_BPF_CLANG} ${GOPHER_BPF_FLAGS} -D__TARGET_ARCH_${GOPHER_BPF_ARCH} ${includes}
            -MD -MF ${out}.bpf.d -c ${source} -o ${out}.bpf.o
    DEPENDS ${source} DEPFILE ${out}.bpf.d COMMENT "BPF ${name}" VERBATIM)
  add_custom_command(
    OUTPUT ${out}.skel.h
    # bpftool prints a C bool as _Bool, which clang++ does not know.
    COMMAND ${GOPHER_BPFTOOL} gen skeleton ${out}.bpf.o name ${name}_bpf > ${out}.skel.h
    COMMAND sed -i "s/\\b_Bool\\b/bool/g" ${out}.skel.h
    DEPENDS ${out}.bpf.o VERBATIM)
  add_custom_target(${name}_skel_h DEPENDS ${out}.skel.h)
  add_library(${name}_skel INTERFACE)
  add_dependencies(${name}_skel ${name}_skel_h)
  target_include_directories(${name}_skel SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
  set_property(TARGET ${name}_skel PROPERTY GOPHER_BPF_OBJECT ${out}.bpf.o)
endfunction()

# gopher_probe(NAME SOURCES...): the plugin <NAME>.so that exports gopher_probe and nothing else; it is
# built in GOPHER_PROBE_OUTPUT_DIR, or else where the build is.
function(gopher_probe name)
  if(NOT GOPHER_PROBE_OUTPUT_DIR)
    set(GOPHER_PROBE_OUTPUT_DIR ${CMAKE_CURRENT_BINARY_DIR})
  endif()
  add_library(${name}_probe MODULE ${ARGN})
  set_target_properties(${name}_probe PROPERTIES PREFIX "" OUTPUT_NAME ${name}
                        LIBRARY_OUTPUT_DIRECTORY ${GOPHER_PROBE_OUTPUT_DIR})
  target_link_libraries(${name}_probe PRIVATE gopher_contract bpf)
  target_link_options(${name}_probe PRIVATE
                      -Wl,--version-script=${GOPHER_CMAKE_DIR}/probe.map)
  if(NOT GOPHER_SANITIZE)  # a sanitizer's runtime comes with the executable
    target_link_options(${name}_probe PRIVATE -Wl,-z,defs)
  endif()
  if(TARGET ${name}_skel)
    target_link_libraries(${name}_probe PRIVATE ${name}_skel)
  endif()
endfunction()
