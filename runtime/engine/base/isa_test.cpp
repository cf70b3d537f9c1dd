#include "base/isa.h"

#include <cstdlib>
#include <set>
#include <string>

#include "base/testing.h"

namespace mllm {
namespace {

TEST(names_are_distinct) {
  std::set<std::string_view> names;
  for (const Isa isa : kAllIsas) CHECK(names.insert(isa_name(isa)).second);
}

TEST(the_chosen_one_is_supported) {
  CHECK(isa_supported(Isa::Generic));
  CHECK(isa_supported(current_isa()));
}

// MINDIR_LLM_TEST_ISA says what this machine must come out as: emulated processors are known.
TEST(the_expected_one_is_chosen) {
  const char* expected = std::getenv("MINDIR_LLM_TEST_ISA");
  if (expected == nullptr) {
    std::printf("skipped: MINDIR_LLM_TEST_ISA is not set\n");
  } else {
    CHECK_EQ(std::string(isa_name(current_isa())), std::string(expected));
  }
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
