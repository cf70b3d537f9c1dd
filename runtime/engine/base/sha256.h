// SHA-256 (FIPS 180-4), to notice files that are not what the exporter wrote.
#ifndef MINDIR_LLM_BASE_SHA256_H_
#define MINDIR_LLM_BASE_SHA256_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace mllm {

class Sha256 {
 public:
  void update(std::span<const uint8_t> bytes);
  std::string hex();  // ends the computation; 64 lower-case digits

 private:
  void block(const uint8_t* p);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> buffer_{};
  size_t buffered_ = 0;
  uint64_t total_ = 0;
};

std::string sha256_hex(std::span<const uint8_t> bytes);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_SHA256_H_
