// Structures that grow at their end: a program and a library of different versions understand each other by
// struct_size.
#ifndef MINDIR_LLM_API_STRUCTS_H_
#define MINDIR_LLM_API_STRUCTS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/error.h"

namespace mllm::api {

// What the program gave, with zero in every field that it does not know. first: the size in the first
// version. NULL: all zeros. Throws INVALID_ARGUMENT for a size that no version had, and where a newer program
// sets a field that is not known here.
template <class T>
T read_struct(const T* given, size_t first, const char* name) {
  T out{};
  if (!given) return out;
  const size_t size = given->struct_size;
  const auto* bytes = reinterpret_cast<const uint8_t*>(given);
  constexpr size_t kMostBytes = 4096;
  if (size < first || size > kMostBytes)
    fail_argument(std::string(name) + ".struct_size must be sizeof(" + name + ")");
  for (size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i]) fail_argument(std::string(name) + " has a field that this library is too old for");
  }
  std::memcpy(&out, given, std::min(size, sizeof(T)));
  out.struct_size = sizeof(T);
  return out;
}

// The fields that the program knows.
template <class T>
void write_struct(T* to, T value, size_t first, const char* name) {
  const uint32_t size = to->struct_size;
  if (size < first) fail_argument(std::string(name) + ".struct_size must be sizeof(" + name + ")");
  value.struct_size = size;
  std::memcpy(to, &value, std::min<size_t>(size, sizeof(T)));
}

}  // namespace mllm::api

#endif  // MINDIR_LLM_API_STRUCTS_H_
