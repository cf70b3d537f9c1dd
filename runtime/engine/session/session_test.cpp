// Sessions over real bundles: MINDIR_LLM_TEST_BUNDLES names them, separated by colons (any bundle of a small
// model will do; batches of several slots and small prefill chunks test most). Without it only what needs no
// bundle runs.
#include "session/session.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "base/testing.h"

namespace mllm {
namespace {

// A random history of a session: the same feeds and rewinds for the same seed.
class Player {
 public:
  Player(const Manifest& manifest, unsigned seed) : m_(manifest), random_(seed) {}

  // Feed and rewind all sessions alike; returns the slots that were fed.
  std::vector<int32_t> step(std::vector<Session*> sessions) {
    std::vector<std::vector<int32_t>> tokens;
    std::vector<int32_t> slots;
    for (int32_t slot = 0; slot < m_.batch_size; ++slot) {
      if (random_() % 3 == 0 && slot + 1 < m_.batch_size) continue;
      int32_t position = sessions[0]->position(slot);
      if (position == m_.max_seq_len || random_() % 10 == 0) {
        position = position == 0 ? 0 : static_cast<int32_t>(random_() % static_cast<unsigned>(position));
        for (Session* s : sessions) s->rewind(slot, position);
      }
      const int32_t room = m_.max_seq_len - position;
      const int32_t most = std::min(room, 3 * m_.prefill_chunk + 2);
      int32_t n = random_() % 3 != 0 ? 1 : 1 + static_cast<int32_t>(random_() % static_cast<unsigned>(most));
      if (random_() % 8 == 0) n = room;  // up to the last position
      std::vector<int32_t>& list = tokens.emplace_back(static_cast<size_t>(n));
      for (int32_t& token : list)
        token = static_cast<int32_t>(random_() % static_cast<unsigned>(m_.vocab_size));
      slots.push_back(slot);
    }
    std::vector<Feed> feeds;
    for (size_t i = 0; i < slots.size(); ++i) feeds.push_back({slots[i], tokens[i]});
    for (Session* s : sessions) s->feed(feeds);
    return slots;
  }

 private:
  const Manifest& m_;
  std::mt19937 random_;
};

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - double{b[i]}));
  return worst;
}

TEST(fused_and_padded_runs_agree) {
  for (const std::string& bundle : testing::bundles()) {
    const auto fused = Model::open(bundle, {.threads = 3, .verify_weights = true, .exact = true});
    const auto written = Model::open(bundle, {.threads = 2, .fuse = false});
    CHECK(fused->is_fused());
    CHECK(!written->is_fused());
    Session a(*fused), b(*written);
    Player player(fused->manifest(), 1);
    // Where anything is float16 in the graph, the two round at different places.
    const bool exact = fused->manifest().kv_dtype == DType::Float32;
    const int steps = testing::is_emulated() ? 10 : 30;
    for (int i = 0; i < steps; ++i) {
      for (const int32_t slot : player.step({&a, &b})) {
        CHECK_NEAR(distance(a.logits(slot), b.logits(slot)), 0, exact ? 1e-4 : 0.2);
        CHECK_EQ(a.position(slot), b.position(slot));
      }
    }
  }
}

TEST(threads_and_chunks_change_no_bit) {
  for (const std::string& bundle : testing::bundles()) {
    for (const bool exact : {false, true}) {
      const auto one = Model::open(bundle, {.threads = 1, .exact = exact});
      const auto four = Model::open(bundle, {.threads = 4, .exact = exact});
      const int32_t n = std::min(one->manifest().max_seq_len, 2 * one->manifest().prefill_chunk + 3);
      std::vector<int32_t> tokens;
      for (int32_t i = 0; i < n; ++i) tokens.push_back((i * 7 + 1) % one->manifest().vocab_size);
      Session whole(*one), single(*four);
      const Feed all{0, tokens};
      whole.feed({&all, 1});
      for (const int32_t token : tokens) {
        const Feed next{0, {&token, 1}};
        single.feed({&next, 1});
      }
      CHECK(whole.logits(0) == single.logits(0));
    }
  }
}

TEST(wrong_feeds_change_nothing) {
  for (const std::string& bundle : testing::bundles()) {
    const auto model = Model::open(bundle, {.threads = 1});
    const Manifest& m = model->manifest();
    Session s(*model);
    CHECK_THROWS(s.logits(0), MLLM_ERROR_INVALID_ARGUMENT);
    const std::vector<int32_t> good{1, 2}, bad{1, m.vocab_size}, negative{-1};
    const std::vector<int32_t> many(static_cast<size_t>(m.max_seq_len), 1);
    const Feed first{0, good};
    s.feed({&first, 1});
    const std::vector<float> logits = s.logits(0);
    for (const std::vector<Feed>& feeds : std::vector<std::vector<Feed>>{{},
                                                                         {{-1, good}},
                                                                         {{m.batch_size, good}},
                                                                         {{0, good}, {0, good}},
                                                                         {{0, bad}},
                                                                         {{0, negative}},
                                                                         {{0, {}}}}) {
      CHECK_THROWS(s.feed(feeds), MLLM_ERROR_INVALID_ARGUMENT);
    }
    const Feed over{0, many};
    CHECK_THROWS(s.feed({&over, 1}), MLLM_ERROR_CAPACITY);
    CHECK_EQ(s.position(0), 2);
    CHECK(s.logits(0) == logits);
    CHECK_THROWS(s.rewind(0, 3), MLLM_ERROR_INVALID_ARGUMENT);
    CHECK_THROWS(s.rewind(0, -1), MLLM_ERROR_INVALID_ARGUMENT);
    CHECK_THROWS(s.position(m.batch_size), MLLM_ERROR_INVALID_ARGUMENT);
    s.rewind(0, 0);
    CHECK_THROWS(s.logits(0), MLLM_ERROR_INVALID_ARGUMENT);
    s.feed({&over, 1});  // exactly full
    CHECK_EQ(s.position(0), m.max_seq_len);
  }
}

TEST(saved_slots_go_on_as_they_were) {
  for (const std::string& bundle : testing::bundles()) {
    const auto model = Model::open(bundle, {.threads = 2});
    const Manifest& m = model->manifest();
    const int32_t last = m.batch_size - 1;
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < m.prefill_chunk + 3; ++i) tokens.push_back((i * 5 + 2) % m.vocab_size);
    Session a(*model), b(*model);
    const Feed all{last, tokens};
    a.feed({&all, 1});
    std::vector<uint8_t> saved = a.save(last);
    const Feed noise{0, std::span(tokens).first(2)};
    b.feed({&noise, 1});
    const std::vector<float> before = b.logits(0);

    for (const size_t at : {size_t{0}, size_t{8}, size_t{13}, size_t{20}, size_t{100}, saved.size() - 1}) {
      std::vector<uint8_t> damaged = saved;
      damaged[at] ^= 1;
      CHECK_THROWS(b.restore(0, damaged), MLLM_ERROR_FORMAT);
    }
    for (const size_t size : {size_t{0}, size_t{9}, size_t{144}, saved.size() - 1}) {
      CHECK_THROWS(b.restore(0, std::span(saved).first(size)), MLLM_ERROR_FORMAT);
    }
    CHECK_THROWS(b.restore(m.batch_size, saved), MLLM_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(b.position(0), 2);
    CHECK(b.logits(0) == before);

    b.restore(0, saved);
    CHECK_EQ(b.position(0), static_cast<int32_t>(tokens.size()));
    CHECK_THROWS(b.logits(0), MLLM_ERROR_INVALID_ARGUMENT);
    const Feed next_a{last, std::span(tokens).first(1)}, next_b{0, std::span(tokens).first(1)};
    a.feed({&next_a, 1});
    b.feed({&next_b, 1});
    CHECK(a.logits(last) == b.logits(0));
    CHECK(a.save(last) == b.save(0));
  }
}

TEST(sessions_in_several_threads) {
  for (const std::string& bundle : testing::bundles()) {
    const auto model = Model::open(bundle, {.threads = 3});
    Session expected(*model);
    Player alone(model->manifest(), 5);
    for (int i = 0; i < 10; ++i) alone.step({&expected});
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        Session mine(*model);
        Player player(model->manifest(), 5);
        std::vector<int32_t> slots;
        for (int i = 0; i < 10; ++i) slots = player.step({&mine});
        for (const int32_t slot : slots) {
          if (mine.logits(slot) != expected.logits(slot)) std::abort();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
