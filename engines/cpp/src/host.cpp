#include "host.hpp"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <set>

namespace htr {
namespace {

std::string cpu_model() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string row; std::getline(cpuinfo, row);)
    for (const std::string key : {"model name", "Model", "Hardware"}) {
      const auto colon = row.find(':');
      if (row.compare(0, key.size(), key) || colon == std::string::npos) continue;
      if (row.find_first_not_of(" \t", key.size()) != colon) continue;
      const auto start = row.find_first_not_of(" \t", colon + 1);
      if (start != std::string::npos) return row.substr(start, row.find_last_not_of(" \t") + 1 - start);
    }
  utsname name{};
  return uname(&name) == 0 ? name.machine : "None";
}

std::string gpus() {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(
      popen("nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null", "r"), pclose);
  std::string found;
  char row[256];
  while (pipe && std::fgets(row, sizeof row, pipe.get())) {
    std::string name(row);
    name.erase(name.find_last_not_of(" \r\n") + 1);
    if (!name.empty()) found += ", " + name;
  }
  return found;
}

}  // namespace

int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string siblings;
    cores.insert(std::getline(file, siblings) ? siblings : std::to_string(cpu));
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

std::string hardware() { return cpu_model() + " x " + std::to_string(physical_cores()) + gpus(); }

}  // namespace htr
