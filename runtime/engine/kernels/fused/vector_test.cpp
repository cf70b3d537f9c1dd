// Every instruction set that this machine runs, against sums in double.
#include "kernels/fused/vector.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/half.h"
#include "base/isa.h"
#include "base/testing.h"

namespace mllm {
namespace {

template <class F>
void for_each_isa(const F& body) {
  for (const Isa isa : {Isa::Generic, Isa::Avx2, Isa::Avx512}) {
    if (isa_supported(isa)) body(vector_kernels(isa));
  }
}

std::vector<float> random_floats(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(size);
  for (float& x : out) x = normal(random);
  return out;
}

// A sum of k products of unit-size numbers in float32, in any order.
double tolerance(int64_t k) {
  return 1e-6 * (static_cast<double>(k) + 4);
}

template <class W>
float value(W w) {
  if constexpr (std::is_same_v<W, uint16_t>)
    return half_to_float(w);
  else
    return static_cast<float>(w);
}

template <class W>
std::vector<W> weights(size_t size, unsigned seed) {
  std::vector<W> out;
  for (const float x : random_floats(size, seed)) {
    if constexpr (std::is_same_v<W, uint16_t>)
      out.push_back(float_to_half(x));
    else if constexpr (std::is_same_v<W, int8_t>)
      out.push_back(static_cast<int8_t>(std::clamp(x * 60, -127.f, 127.f)));
    else
      out.push_back(x);
  }
  return out;
}

template <class W>
void check_linear(void (*linear)(const LinearBlock&), double unit) {
  for (const int64_t k : {1, 7, 16, 64, 77}) {
    for (const int64_t n : {1, 4, 9}) {
      const auto w = weights<W>(static_cast<size_t>(n * k), 1);
      const auto scale = random_floats(static_cast<size_t>(n), 2);
      const auto bias = random_floats(static_cast<size_t>(n), 3);
      const int64_t most = 17;
      const auto x = random_floats(static_cast<size_t>(most * k), 4);
      std::vector<float> first;  // the rows one at a time
      for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, int64_t{6}, most}) {
        std::vector<float> y(static_cast<size_t>(rows * n));
        linear({x.data(), w.data(), scale.data(), bias.data(), y.data(), rows, n, k, n});
        for (int64_t r = 0; r < rows; ++r) {
          std::vector<float> alone(static_cast<size_t>(n));
          linear({x.data() + r * k, w.data(), scale.data(), bias.data(), alone.data(), 1, n, k, n});
          for (int64_t c = 0; c < n; ++c) {
            double sum = 0;
            for (int64_t i = 0; i < k; ++i) sum += double{x[r * k + i]} * double{value(w[c * k + i])};
            const float got = y[static_cast<size_t>(r * n + c)];
            CHECK_NEAR(got, sum * scale[c] + bias[c], tolerance(k) * unit * (1 + std::abs(scale[c])));
            // Exactly the same whatever else is in the block.
            CHECK_EQ(got, alone[static_cast<size_t>(c)]);
          }
        }
        linear({x.data(), w.data(), nullptr, nullptr, y.data(), rows, n, k, n});
        CHECK(std::isfinite(y[0]));
      }
    }
  }
}

TEST(linear) {
  for_each_isa([](const VectorKernels& kernels) {
    check_linear<float>(kernels.linear_f32, 1);
    check_linear<uint16_t>(kernels.linear_f16, 1);
    check_linear<int8_t>(kernels.linear_i8, 60);
  });
}

template <class W>
void check_attention(decltype(VectorKernels::scores_f32) scores,
                     decltype(VectorKernels::accumulate_f32) accumulate) {
  for (const int64_t size : {2, 8, 16, 64, 80, 100}) {
    const int64_t count = 11;
    const int64_t stride = size + 3;
    const auto q = random_floats(static_cast<size_t>(size), 5);
    const auto cache = weights<W>(static_cast<size_t>(count * stride), 6);
    std::vector<float> p(static_cast<size_t>(count));
    scores(q.data(), cache.data(), stride, count, size, 0.5f, p.data());
    std::vector<float> y = q;
    accumulate(y.data(), p.data(), cache.data(), stride, count, size);
    for (int64_t j = 0; j < count; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < size; ++i) sum += double{q[i]} * double{value(cache[j * stride + i])};
      CHECK_NEAR(p[j], 0.5 * sum, tolerance(size));
    }
    for (int64_t i = 0; i < size; ++i) {
      double sum = q[i];
      for (int64_t j = 0; j < count; ++j) sum += double{p[j]} * double{value(cache[j * stride + i])};
      CHECK_NEAR(y[i], sum, tolerance(count) * 10);
    }
  }
}

TEST(attention_parts) {
  for_each_isa([](const VectorKernels& kernels) {
    check_attention<float>(kernels.scores_f32, kernels.accumulate_f32);
    check_attention<uint16_t>(kernels.scores_f16, kernels.accumulate_f16);
  });
}

TEST(conversions_are_those_of_half_h) {
  for_each_isa([](const VectorKernels& kernels) {
    std::vector<uint16_t> all(0x7c01);  // every non-negative half up to infinity
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    std::vector<float> wide(all.size());
    kernels.from_f16(all.data(), wide.data(), static_cast<int64_t>(all.size()));
    for (size_t i = 0; i < all.size(); ++i) CHECK_EQ(wide[i], half_to_float(all[i]));
    // Halfway between neighbours, and just beside, with both signs.
    std::vector<float> x;
    for (size_t i = 0; i + 2 < all.size(); i += 7) {
      const float middle = wide[i] + (wide[i + 1] - wide[i]) / 2;
      for (const float f : {middle, std::nextafter(middle, 0.f), std::nextafter(middle, 1e9f)}) {
        x.push_back(f);
        x.push_back(-f);
      }
    }
    std::vector<uint16_t> y(x.size());
    kernels.to_f16(x.data(), y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) CHECK_EQ(y[i], float_to_half(x[i]));
  });
}

TEST(scale_and_dot) {
  for_each_isa([](const VectorKernels& kernels) {
    for (const int64_t size : {1, 5, 16, 33}) {
      auto x = random_floats(static_cast<size_t>(size), 8);
      double sum = 0;
      for (const float f : x) sum += double{f} * f;
      CHECK_NEAR(kernels.dot(x.data(), x.data(), size), sum, tolerance(size));
      auto y = x;
      kernels.scale(y.data(), 3.0f, size);
      for (int64_t i = 0; i < size; ++i)
        CHECK_EQ(y[static_cast<size_t>(i)], 3.0f * x[static_cast<size_t>(i)]);
    }
  });
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
