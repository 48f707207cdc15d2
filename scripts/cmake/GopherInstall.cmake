# GopherInstall.cmake - what an installation has beside gopherd and its plugins; relocatable.
# SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)

# The contract, kernel side and user side, and the CMake package for probes of others.
set(GOPHER_PROBE_DESTINATION ${CMAKE_INSTALL_LIBDIR}/gopher/probes)
set(GOPHER_CMAKE_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/gopher)
install(DIRECTORY include/gopher bpf/gopher DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
configure_package_config_file(
  scripts/cmake/gopher-config.cmake.in ${PROJECT_BINARY_DIR}/gopher-config.cmake
  INSTALL_DESTINATION ${GOPHER_CMAKE_DESTINATION}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR GOPHER_PROBE_DESTINATION)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gopher-config-version.cmake
                                 COMPATIBILITY SameMajorVersion)
install(FILES scripts/cmake/GopherBpf.cmake scripts/cmake/probe.map
              ${PROJECT_BINARY_DIR}/gopher-config.cmake
              ${PROJECT_BINARY_DIR}/gopher-config-version.cmake
        DESTINATION ${GOPHER_CMAKE_DESTINATION})

# The configuration: /etc/gopher for a prefix of the system, PREFIX/etc/gopher for another one, decided
# when it is installed (`cmake --install --prefix`). One that is there already is somebody's work.
install(CODE "
  set(etc /etc)
  if(NOT CMAKE_INSTALL_PREFIX MATCHES \"^/usr(/local)?/?$\")
    set(etc \${CMAKE_INSTALL_PREFIX}/etc)
  endif()
  if(EXISTS \$ENV{DESTDIR}\${etc}/gopher/gopher.conf)
    message(STATUS \"Kept: \$ENV{DESTDIR}\${etc}/gopher/gopher.conf\")
  else()
    file(INSTALL ${PROJECT_SOURCE_DIR}/conf/gopher.conf DESTINATION \${etc}/gopher)
  endif()
  file(MAKE_DIRECTORY \$ENV{DESTDIR}\${etc}/gopher/gopher.conf.d)
")

# systemd looks below /usr/lib and /usr/local/lib alike. The unit names the path of a distribution.
file(READ ${PROJECT_SOURCE_DIR}/systemd/gopherd.service unit)
string(REPLACE /usr/sbin/gopherd ${CMAKE_INSTALL_FULL_SBINDIR}/gopherd unit "${unit}")
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/gopherd.service CONTENT "${unit}" @ONLY)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS systemd/gopherd.service)
install(FILES ${PROJECT_BINARY_DIR}/gopherd.service DESTINATION lib/systemd/system)

install(FILES docs/man/gopherd.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}
        FILES_MATCHING PATTERN "*.md" PATTERN "schema.json" PATTERN man EXCLUDE)
install(FILES conf/gopher.conf.example DESTINATION ${CMAKE_INSTALL_DOCDIR})
