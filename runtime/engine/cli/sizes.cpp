#include "cli/sizes.h"

#include "cli/numbers.h"

namespace mllm::cli {

std::string size_text(double bytes) {
  if (bytes < 1000) return fixed(bytes, 0) + " B";
  int power = 0;
  while (bytes >= 1000 && power < 3) {
    bytes /= 1000;
    ++power;
  }
  return fixed(bytes, 1) + " " + std::string(1, " kMG"[power]) + "B";
}

}  // namespace mllm::cli
