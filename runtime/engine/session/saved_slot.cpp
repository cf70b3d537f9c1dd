#include "session/saved_slot.h"

#include <cstring>

#include "base/error.h"
#include "base/sha256.h"

namespace mllm {
namespace {

constexpr char kMagic[8] = {'M', 'L', 'L', 'M', 'S', 'L', 'O', 'T'};
constexpr uint32_t kVersion = 1;

// Little endian, as everything that the engine runs on.
struct Header {
  char magic[8];
  uint32_t version;
  int32_t position;
  char bundle[64];
  char sha256[64];  // of what follows
};

// f(row bytes of one KV head of the slot), in the order of the caches.
template <class F>
void for_each_head(std::span<const Tensor> caches, int32_t slot, int32_t position, const F& f) {
  for (const Tensor& cache : caches) {
    const size_t row = dtype_size(cache.dtype) * static_cast<size_t>(cache.dims[3]);
    const size_t head = row * static_cast<size_t>(cache.dims[2]);
    const auto heads = static_cast<size_t>(cache.dims[1]);
    for (size_t h = 0; h < heads; ++h) {
      f(cache.as<uint8_t>() + (static_cast<size_t>(slot) * heads + h) * head,
        row * static_cast<size_t>(position));
    }
  }
}

size_t rows_bytes(std::span<const Tensor> caches, int32_t slot, int32_t position) {
  size_t total = 0;
  for_each_head(caches, slot, position, [&](uint8_t*, size_t bytes) { total += bytes; });
  return total;
}

}  // namespace

std::vector<uint8_t> save_slot(const std::string& bundle, std::span<const Tensor> caches, int32_t slot,
                               int32_t position) {
  std::vector<uint8_t> out(sizeof(Header) + rows_bytes(caches, slot, position));
  uint8_t* at = out.data() + sizeof(Header);
  for_each_head(caches, slot, position, [&](const uint8_t* rows, size_t bytes) {
    std::memcpy(at, rows, bytes);
    at += bytes;
  });
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.position = position;
  bundle.copy(header.bundle, sizeof header.bundle);
  sha256_hex(std::span(out).subspan(sizeof(Header))).copy(header.sha256, sizeof header.sha256);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

int32_t restore_slot(const std::string& bundle, std::span<const Tensor> caches, int32_t slot,
                     int32_t max_seq_len, std::span<const uint8_t> saved) {
  Header header;
  if (saved.size() < sizeof header) fail_format("saved session: too short");
  std::memcpy(&header, saved.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) fail_format("saved session: not one of ours");
  if (header.version != kVersion) {
    fail_format("saved session: version " + std::to_string(header.version) + ", this library reads " +
                std::to_string(kVersion));
  }
  if (std::string(header.bundle, sizeof header.bundle) != bundle) {
    fail_format("saved session: it belongs to another bundle");
  }
  if (header.position < 0 || header.position > max_seq_len) {
    fail_format("saved session: position " + std::to_string(header.position) + " is outside of 0 … " +
                std::to_string(max_seq_len));
  }
  const std::span<const uint8_t> rows = saved.subspan(sizeof header);
  if (rows.size() != rows_bytes(caches, slot, header.position) ||
      sha256_hex(rows) != std::string(header.sha256, sizeof header.sha256)) {
    fail_format("saved session: damaged or cut off");
  }
  const uint8_t* at = rows.data();
  for_each_head(caches, slot, header.position, [&](uint8_t* to, size_t bytes) {
    std::memcpy(to, at, bytes);
    at += bytes;
  });
  return header.position;
}

}  // namespace mllm
