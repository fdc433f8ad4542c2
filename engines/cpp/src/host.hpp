// The machine: its cores, and in one line what latencies on it depend on.
#pragma once

#include <string>

namespace htr {

int physical_cores();  // that this process may use
std::string hardware();  // as htr_engines.host.hardware_of gives it

}  // namespace htr
