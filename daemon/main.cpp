// main.cpp - gopherd's command line.
// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>

#include <cstdio>
#include <string>

#include "bus/instrumentation.hpp"
#include "core/log.hpp"
#include "export/schema.hpp"
#include "gopherd.hpp"

namespace {

constexpr const char* kUsage =
    "usage: gopherd [OPTION]...\n"
    "Watches this node through eBPF probes and serves what they count.\n"
    "\n"
    "  -c, --config FILE      configuration (default /etc/gopher/gopher.conf), then FILE.d/*.conf\n"
    "      --plugin-dir DIR   folder of the probes (default " GOPHER_PLUGIN_DIR
    ")\n"
    "      --state-dir DIR    folder of the local event store (default: the configuration's)\n"
    "      --check [FILE]     check the configuration, print all mistakes, and exit\n"
    "      --schema=WHAT      print from the probes' tables and exit; WHAT is markdown (or one of\n"
    "                         metrics, events, config), json or conf; needs neither root nor BPF\n"
    "  -V, --version          print the version and exit\n"
    "  -h, --help             print this and exit\n"
    "\n"
    "Exit status: 0 stopped as asked, 1 this machine or folder will not do, 2 usage or "
    "configuration.\n"
    "Environment: GOPHER_MASK=KIND,... hides kinds of BPF programs (tp_btf, raw_tp, tp, fentry,\n"
    "fexit, kprobe, kretprobe) to test what is left.\n";

struct Arguments {
  gopher::Invocation run = {
      .config_file = "/etc/gopher/gopher.conf", .plugin_dir = GOPHER_PLUGIN_DIR, .state_dir = ""};
  bool check = false;
  std::string schema;
};

int usage_error(const std::string& text) {
  std::fprintf(stderr, "gopherd: %s; see gopherd --help\n", text.c_str());
  return gopher::kExitUsage;
}

// -1: go on; else the exit status.
int parse(int argc, char** argv, Arguments* out) {
  enum { kPluginDir = 256, kStateDir, kCheck, kSchema };
  const option options[] = {{"config", required_argument, nullptr, 'c'},
                            {"plugin-dir", required_argument, nullptr, kPluginDir},
                            {"state-dir", required_argument, nullptr, kStateDir},
                            {"check", no_argument, nullptr, kCheck},
                            {"schema", required_argument, nullptr, kSchema},
                            {"version", no_argument, nullptr, 'V'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "c:Vh", options, nullptr)) != -1;) {
    switch (c) {
      case 'c':
        out->run.config_file = optarg;
        break;
      case kPluginDir:
        out->run.plugin_dir = optarg;
        break;
      case kStateDir:
        out->run.state_dir = optarg;
        break;
      case kCheck:
        out->check = true;
        break;
      case kSchema:
        out->schema = optarg;
        break;
      case 'V':
        std::printf("gopherd %s (probe ABI %u)\n", GOPHER_VERSION, GOPHER_PROBE_ABI);
        return gopher::kExitOk;
      case 'h':
        std::fputs(kUsage, stdout);
        return gopher::kExitOk;
      default:
        return usage_error(std::string("unknown or incomplete option `") + argv[optind - 1] + "`");
    }
  }
  if (out->check && optind < argc) out->run.config_file = argv[optind++];
  if (optind < argc) return usage_error(std::string("unexpected argument `") + argv[optind] + "`");
  return -1;
}

int print_schema(const std::string& what, const gopher::LibraryScan& scan) {
  gopher::Catalog catalog;
  for (const gopher::Library& l : scan.libraries) catalog.push_back(l.tables());
  std::string text;
  if (what == "json")
    text = gopher::schema_json(catalog, gopher::own_metrics());
  else if (what == "conf")
    text = gopher::schema_conf(catalog);
  else if (what == "markdown")
    text = gopher::schema_markdown(catalog, gopher::own_metrics(), "metrics") + "\n" +
           gopher::schema_markdown(catalog, gopher::own_metrics(), "events") + "\n" +
           gopher::schema_markdown(catalog, gopher::own_metrics(), "config");
  else if (what == "metrics" || what == "events" || what == "config")
    text = gopher::schema_markdown(catalog, gopher::own_metrics(), what);
  else
    return usage_error("--schema=" + what +
                       " is none of markdown, metrics, events, config, json, conf");
  std::fputs(text.c_str(), stdout);
  return gopher::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  if (int status = parse(argc, argv, &args); status >= 0) return status;
  auto scan = gopher::scan_libraries(args.run.plugin_dir);
  if (!scan) {
    std::fprintf(stderr, "gopherd: %s\n", scan.error().text.c_str());
    return gopher::kExitFailure;
  }
  for (const std::string& r : scan->refused)
    gopher::log::write(gopher::log::kError, "plugin %s", r.c_str());
  if (!args.schema.empty()) return print_schema(args.schema, *scan);

  auto result = gopher::check_config(args.run.config_file, scan->libraries);
  for (const std::string& e : result.errors) std::fprintf(stderr, "%s\n", e.c_str());
  if (!result.config) return gopher::kExitUsage;
  if (args.check) {
    std::printf("%s: no mistakes\n", args.run.config_file.c_str());
    return gopher::kExitOk;
  }
  return gopher::run_gopherd(args.run, *std::move(scan), std::move(result.config));
}
