// Protobuf wire format, read in place: https://protobuf.dev/programming-guides/encoding/
#ifndef MINDIR_LLM_BASE_WIRE_H_
#define MINDIR_LLM_BASE_WIRE_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace mllm {

using Bytes = std::span<const uint8_t>;

// One field of a message. Only the member that fits the wire type is meaningful.
struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;  // 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32
  uint64_t integer = 0;    // varint, fixed64, fixed32
  Bytes bytes;             // length-delimited
};

// Walks the fields of one message. Every length is checked against the bytes that are there.
class WireReader {
 public:
  // `what` the file should be, for messages.
  WireReader(Bytes bytes, std::string_view file, std::string_view what = "a MindIR file")
      : bytes_(bytes), file_(file), what_(what) {}

  bool next(Field& field) {
    if (position_ == bytes_.size()) return false;
    const uint64_t key = varint();
    field.number = static_cast<uint32_t>(key >> 3);
    field.wire_type = static_cast<uint32_t>(key & 7);
    field.integer = 0;
    field.bytes = {};
    if (key >> 3 == 0 || key >> 32 != 0) corrupt("bad field number");
    switch (field.wire_type) {
      case 0:
        field.integer = varint();
        break;
      case 1:
        field.integer = fixed(8);
        break;
      case 2: {
        const uint64_t length = varint();
        if (length > bytes_.size() - position_) corrupt("a field runs past the end");
        field.bytes = bytes_.subspan(position_, length);
        position_ += length;
        break;
      }
      case 5:
        field.integer = fixed(4);
        break;
      default:
        corrupt("unknown wire type");
    }
    return true;
  }

  [[noreturn]] void corrupt(const char* why) const {
    fail_format(std::string(file_) + ": not " + std::string(what_) + " or corrupt: " + why + " (near byte " +
                std::to_string(position_) + " of a message of " + std::to_string(bytes_.size()) + ")");
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (position_ == bytes_.size()) corrupt("a number runs past the end");
      const uint8_t byte = bytes_[position_++];
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    corrupt("a number is longer than 10 bytes");
  }

  uint64_t fixed(size_t n) {
    if (bytes_.size() - position_ < n) corrupt("a number runs past the end");
    uint64_t value = 0;
    for (size_t i = 0; i < n; ++i) value |= static_cast<uint64_t>(bytes_[position_ + i]) << (8 * i);
    position_ += n;
    return value;
  }

  bool done() const { return position_ == bytes_.size(); }

 private:
  Bytes bytes_;
  std::string_view file_;
  std::string_view what_;
  size_t position_ = 0;
};

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_WIRE_H_
