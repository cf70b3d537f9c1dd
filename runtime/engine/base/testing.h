// A tiny unit-test harness: each *_test.cpp is one program.
//
//   TEST(adds_numbers) { CHECK_EQ(1 + 1, 2); }
//   TEST_MAIN()
#ifndef MINDIR_LLM_BASE_TESTING_H_
#define MINDIR_LLM_BASE_TESTING_H_

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"

namespace mllm::testing {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}

inline int& failures_of_case() {
  static int count = 0;
  return count;
}

// A folder that goes away with the object.
class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "mllm-test-XXXXXX").string()) {
    if (!mkdtemp(path_.data())) throw std::runtime_error("mkdtemp failed");
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }
  // The path of a file with this content; `name` may be in folders of its own.
  std::string write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file.string();
  }

 private:
  std::string path_;
};

// Whether portable kernels have a fused multiply-add here, and so the bits of all the others.
#if defined(__FP_FAST_FMAF)
inline constexpr bool kGenericIsFused = true;
#else
inline constexpr bool kGenericIsFused = false;
#endif

// What MINDIR_LLM_TEST_BUNDLES names, separated by colons: bundles for tests that need some.
inline std::vector<std::string> bundles() {
  std::vector<std::string> out;
  const char* names = std::getenv("MINDIR_LLM_TEST_BUNDLES");
  std::istringstream list(names ? names : "");
  for (std::string name; std::getline(list, name, ':');) out.push_back(name);
  if (out.empty()) std::printf("skipped: MINDIR_LLM_TEST_BUNDLES is not set\n");
  return out;
}

// Whether MINDIR_LLM_TEST_EMULATED is 1: each operation takes some fifty times as long, and what does not
// depend on the machine is tested elsewhere.
inline bool is_emulated() {
  const char* value = std::getenv("MINDIR_LLM_TEST_EMULATED");
  return value && std::string(value) == "1";
}

struct Registration {
  Registration(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

inline void report(const char* file, int line, const std::string& what) {
  ++failures_of_case();
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <class T>
std::string show(const T& value) {
  std::ostringstream out;
  out.precision(17);
  if constexpr (requires { out << value; }) {
    out << value;
  } else {
    out << "(value)";
  }
  return out.str();
}

inline int run_all() {
  int passed = 0;
  int failed = 0;
  for (const Case& c : cases()) {
    failures_of_case() = 0;
    const auto begin = std::chrono::steady_clock::now();
    try {
      c.body();
    } catch (const std::exception& e) {
      report(c.name, 0, std::string("unexpected exception: ") + e.what());
    }
    // Where the time of a slow program goes: `ctest -V` shows it.
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (taken.count() > 1) std::printf("%s: %.1f s\n", c.name, taken.count());
    if (failures_of_case()) {
      ++failed;
      std::fprintf(stderr, "FAILED %s\n", c.name);
    } else {
      ++passed;
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}

}  // namespace mllm::testing

#define TEST(name)                                                              \
  static void test_##name();                                                    \
  static const mllm::testing::Registration register_##name(#name, test_##name); \
  static void test_##name()

#define TEST_MAIN()                  \
  int main() {                       \
    return mllm::testing::run_all(); \
  }

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) mllm::testing::report(__FILE__, __LINE__, "not true: " #condition); \
  } while (0)

#define CHECK_EQ(a, b)                                                                               \
  do {                                                                                               \
    const auto check_a = (a);                                                                        \
    const auto check_b = (b);                                                                        \
    if (!(check_a == check_b)) {                                                                     \
      mllm::testing::report(                                                                         \
          __FILE__, __LINE__,                                                                        \
          #a " is " + mllm::testing::show(check_a) + ", " #b " is " + mllm::testing::show(check_b)); \
    }                                                                                                \
  } while (0)

#define CHECK_NEAR(a, b, tolerance)                                                                  \
  do {                                                                                               \
    const double check_a = (a);                                                                      \
    const double check_b = (b);                                                                      \
    if (!(std::abs(check_a - check_b) <= (tolerance))) {                                             \
      mllm::testing::report(                                                                         \
          __FILE__, __LINE__,                                                                        \
          #a " is " + mllm::testing::show(check_a) + ", " #b " is " + mllm::testing::show(check_b)); \
    }                                                                                                \
  } while (0)

// `expression` must throw mllm::Error with this status.
#define CHECK_THROWS(expression, expected)                                                        \
  do {                                                                                            \
    bool check_thrown = false;                                                                    \
    try {                                                                                         \
      (void)(expression);                                                                         \
    } catch (const mllm::Error& error) {                                                          \
      check_thrown = true;                                                                        \
      if (error.status() != (expected)) {                                                         \
        mllm::testing::report(                                                                    \
            __FILE__, __LINE__,                                                                   \
            #expression " threw status " + std::to_string(error.status()) + ": " + error.what()); \
      }                                                                                           \
    }                                                                                             \
    if (!check_thrown) mllm::testing::report(__FILE__, __LINE__, #expression " threw nothing");   \
  } while (0)

#endif  // MINDIR_LLM_BASE_TESTING_H_
