#include "base/sha256.h"

#include <vector>

#include "base/testing.h"

namespace {

std::string of(const std::string& text) {
  return mllm::sha256_hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace

// FIPS 180-4 examples.
TEST(known_digests) {
  CHECK_EQ(of(""), std::string("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
  CHECK_EQ(of("abc"), std::string("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  CHECK_EQ(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
           std::string("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"));
  CHECK_EQ(of(std::string(1000000, 'a')),
           std::string("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
}

TEST(pieces_give_the_digest_of_the_whole) {
  std::vector<uint8_t> data(1000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 7);
  const std::string whole = mllm::sha256_hex(data);
  for (size_t cut = 0; cut < 200; ++cut) {
    mllm::Sha256 hash;
    hash.update(std::span(data).first(cut));
    hash.update(std::span(data).subspan(cut, 64));
    hash.update(std::span(data).subspan(cut + 64));
    CHECK_EQ(hash.hex(), whole);
  }
}

TEST_MAIN()
