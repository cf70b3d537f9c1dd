// Every instruction set that this machine runs, against sums in double.
#include "kernels/fused/vector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/half.h"
#include "base/isa.h"
#include "base/testing.h"

namespace mllm {
namespace {

template <class F>
void for_each_isa(const F& body) {
  for (const Isa isa : {Isa::Generic, Isa::Avx2, Isa::Avx512, Isa::Neon, Isa::Vfpv4}) {
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
      out.push_back(static_cast<int8_t>(std::fmod(x * 100, 128)));
    else
      out.push_back(x);
  }
  return out;
}

TEST(product) {
  for_each_isa([](const VectorKernels& kernels) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 13}) {
      for (const int64_t n : {16, 64, 80}) {
        for (const int64_t k : {1, 7, 64}) {
          const int64_t a_stride = k + 3;
          const int64_t b_stride = n + 16;
          const auto a = random_floats(static_cast<size_t>(rows * a_stride), 5);
          const auto b = random_floats(static_cast<size_t>(k * b_stride), 6);
          const auto before = random_floats(static_cast<size_t>(rows * b_stride), 7);
          for (const bool accumulate : {false, true}) {
            auto c = before;
            kernels.product({a.data(),
                             b.data(),
                             c.data(),
                             rows,
                             n,
                             k,
                             a_stride,
                             b_stride,
                             b_stride,
                             accumulate,
                             {b.data(), 4096}});
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t j = 0; j < b_stride; ++j) {
                const auto at = static_cast<size_t>(r * b_stride + j);
                double sum = accumulate || j >= n ? before[at] : 0;
                for (int64_t i = 0; i < k && j < n; ++i)
                  sum += double{a[r * a_stride + i]} * b[i * b_stride + j];
                CHECK_NEAR(c[at], sum, tolerance(k));
              }
            }
          }
        }
      }
    }
  });
}

template <class T>
void check_transpose(decltype(VectorKernels::transpose_f32) transpose) {
  for (const int64_t count : {1, 4, 15, 16, 50, 64}) {
    for (const int64_t size : {1, 5, 16, 64, 83}) {
      const auto x = weights<T>(static_cast<size_t>(count * size), 6);
      std::vector<float> y(static_cast<size_t>(size * 64), 1e9f);
      transpose(x.data(), count, size, y.data(), {x.data(), 100});
      const int64_t padded = (count + kProductColumns - 1) / kProductColumns * kProductColumns;
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t j = 0; j < 64; ++j) {
          const float want = j < count    ? value(x[static_cast<size_t>(j * size + i)])
                             : j < padded ? 0.0f
                                          : 1e9f;
          CHECK_EQ(y[static_cast<size_t>(i * 64 + j)], want);
        }
      }
    }
  }
}

TEST(transpose) {
  for_each_isa([](const VectorKernels& kernels) {
    check_transpose<float>(kernels.transpose_f32);
    check_transpose<uint16_t>(kernels.transpose_f16);
    check_transpose<int8_t>(kernels.transpose_i8);
  });
}

// A sample of all floats, the ends of the range in full.
TEST(exp) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 9973) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (const float end : {-87.33f, 88.722839f}) {
    float f = end;
    for (int i = 0; i < 500; ++i) x.push_back(f = std::nextafter(f, 0.0f));
    f = end;
    for (int i = 0; i < 500; ++i) x.push_back(f = std::nextafter(f, 2 * end));
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float f : {0.0f, -0.0f, 1.0f, infinity, -infinity, std::nanf("")}) x.push_back(f);
  std::vector<std::vector<float>> all;
  for_each_isa([&](const VectorKernels& kernels) {
    std::vector<float> y(x.size());
    kernels.exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(double{x[i]});
      if (std::isnan(x[i])) {
        CHECK(std::isnan(y[i]));
      } else if (x[i] < -87.33f) {
        CHECK_EQ(y[i], 0.0f);
      } else if (static_cast<float>(want) == infinity) {
        CHECK_EQ(y[i], infinity);
      } else {
        CHECK_NEAR(y[i], want, 1.1 * std::ldexp(1.0, std::ilogb(want) - 23));
      }
    }
    all.push_back(std::move(y));
  });
  // Those with an fma agree to the last bit.
  for (size_t i = 2; i < all.size(); ++i) CHECK(std::memcmp(all[1].data(), all[i].data(), x.size() * 4) == 0);
}

TEST(swiglu) {
  for_each_isa([](const VectorKernels& kernels) {
    auto gate = random_floats(77, 1);
    const auto up = random_floats(77, 2);
    gate[3] = 200;
    gate[4] = -200;
    gate[5] = -88;
    std::vector<float> y(77);
    kernels.swiglu(gate.data(), up.data(), y.data(), 77);
    for (size_t i = 0; i < y.size(); ++i) {
      CHECK_NEAR(y[i], gate[i] / (1 + std::exp(-double{gate[i]})) * up[i],
                 1e-6 * std::abs(gate[i] * up[i]) + 1e-30);
    }
  });
}

// 16 chains, joined by halves: what each instruction set must come to, in scalars.
float joined(std::vector<float> chains) {
  for (size_t n = chains.size() / 2; n > 0; n /= 2) {
    for (size_t i = 0; i < n; ++i) chains[i] += chains[i + n];
  }
  return chains[0];
}

TEST(sums_have_the_same_bits_everywhere) {
  for (const size_t size : {1, 5, 16, 17, 64, 172, 255, 2048}) {
    const auto a = random_floats(size, 1), b = random_floats(size, 2);
    std::vector<float> chains(16);
    double exact = 0;
    for (size_t i = 0; i < size; ++i) {
      chains[i % 16] = std::fma(a[i], b[i], chains[i % 16]);
      exact += double{a[i]} * b[i];
    }
    const float expected = joined(chains);
    for_each_isa([&](const VectorKernels& kernels) {
      const float found = kernels.dot(a.data(), b.data(), static_cast<int64_t>(size));
      CHECK_NEAR(found, exact, tolerance(static_cast<int64_t>(size)));
      if (testing::kGenericIsFused || &kernels != &vector_kernels(Isa::Generic)) CHECK_EQ(found, expected);
    });
  }
}

TEST(softmax) {
  const float infinity = std::numeric_limits<float>::infinity();
  for_each_isa([&](const VectorKernels& kernels) {
    for (const size_t count : {1, 3, 16, 17, 64, 100, 256}) {
      auto scores = random_floats(272, 3);
      const auto x = scores;
      SoftmaxState state;
      kernels.softmax(scores.data(), 0, 1, static_cast<int64_t>(count), &state);
      CHECK_EQ(state.maximum, *std::max_element(x.begin(), x.begin() + static_cast<int64_t>(count)));
      double sum = 0;
      for (size_t i = 0; i < count; ++i) {
        const double want = std::exp(double{x[i]} - state.maximum);
        CHECK_NEAR(scores[i], want, 2e-7);
        sum += want;
      }
      CHECK_NEAR(state.sum, sum, 1e-6 * sum);
      std::vector<float> chains(16);
      for (size_t i = 0; i < count; ++i) chains[i % 16] += scores[i];
      CHECK_EQ(state.sum, joined(chains));
      // Beyond the next multiple of 16 nothing is touched.
      for (size_t i = (count + 15) / 16 * 16; i < 272; ++i) CHECK_EQ(scores[i], x[i]);
    }
    std::vector<float> scores(32, -infinity);
    SoftmaxState state;
    kernels.softmax(scores.data(), 0, 1, 20, &state);
    CHECK_EQ(state.maximum, -infinity);
    CHECK_EQ(state.sum, 0.0f);
    scores.assign(32, 1.0f);
    scores[9] = std::nanf("");
    kernels.softmax(scores.data(), 0, 1, 20, &state);
    CHECK(std::isnan(state.sum));
  });
}

TEST(softmax_merge) {
  for_each_isa([](const VectorKernels& kernels) {
    for (const float other_maximum : {-3.0f, 2.5f}) {
      const auto x = random_floats(48, 1);
      auto y = random_floats(48, 2);
      const auto before = y;
      SoftmaxState state{0.5f, 3.0f};
      const SoftmaxState other{other_maximum, 7.0f};
      kernels.softmax_merge(y.data(), &state, x.data(), &other, 48);
      const double maximum = std::max(0.5f, other_maximum);
      const double a = std::exp(0.5 - maximum);
      const double b = std::exp(other_maximum - maximum);
      CHECK_EQ(state.maximum, static_cast<float>(maximum));
      CHECK_NEAR(state.sum, 3 * a + 7 * b, 2e-6);
      for (size_t i = 0; i < 48; ++i) CHECK_NEAR(y[i], before[i] * a + x[i] * b, 1e-6);
    }
  });
}

TEST(bytes_become_the_same_numbers) {
  for_each_isa([](const VectorKernels& kernels) {
    std::vector<int8_t> x(256);
    for (int i = 0; i < 256; ++i) x[static_cast<size_t>(i)] = static_cast<int8_t>(i * 37);
    for (const size_t size : {1u, 15u, 16u, 17u, 250u, 256u}) {
      std::vector<float> y(257, 1e9f);
      kernels.from_i8(x.data(), y.data(), static_cast<int64_t>(size));
      for (size_t i = 0; i < y.size(); ++i) CHECK_EQ(y[i], i < size ? static_cast<float>(x[i]) : 1e9f);
    }
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
      std::vector<float> y(x.size());
      kernels.scale_to(x.data(), 3.0f, y.data(), size);
      for (int64_t i = 0; i < size; ++i)
        CHECK_EQ(y[static_cast<size_t>(i)], 3.0f * x[static_cast<size_t>(i)]);
    }
  });
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
