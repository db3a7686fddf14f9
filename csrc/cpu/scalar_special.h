// Gamma functions and the inverse of erf: computed in double, one element at a time.
#pragma once
#include <math.h>  // lgamma_r, which <cmath> does not promise; std::lgamma writes a global

#include <cmath>
#include <limits>

namespace minimx {
namespace scalar {

/// ln |Gamma(x)|; infinite at 0, -1, -2, ...
template <class T>
T gammaln(T x) {
  int sign;
  return static_cast<T>(::lgamma_r(static_cast<double>(x), &sign));
}

/// Gamma(x); infinite (of the sign of x) at 0, NaN at the negative integers.
template <class T>
T gamma(T x) {
  return static_cast<T>(std::tgamma(static_cast<double>(x)));
}

/// erfinv: Giles's approximation (2010, "Approximating the erfinv function"), then two of Halley's steps.
template <class T>
T erfinv(T value) {
  const double x = value, a = std::fabs(x);
  if (!(a < 1))
    return a == 1 ? std::copysign(std::numeric_limits<T>::infinity(), value) : std::numeric_limits<T>::quiet_NaN();
  double w = -std::log((1 - a) * (1 + a)), p;
  if (w < 5) {
    w -= 2.5;
    const double c[] = {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                        -0.00125372503, -0.00417768164, 0.246640727,    1.50140941};
    p = 0;
    for (double k : c) p = p * w + k;
  } else {
    w = std::sqrt(w) - 3;
    const double c[] = {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                        -0.0076224613,   0.00943887047,  1.00167406,    2.83297682};
    p = 0;
    for (double k : c) p = p * w + k;
  }
  double y = p * a;
  for (int step = 0; step < 2; ++step) {
    // erf(y) - a, from the complements where they are the smaller numbers.
    const double error = a > 0.5 ? (1 - a) - std::erfc(y) : std::erf(y) - a;
    const double newton = error * 0.88622692545275801 * std::exp(y * y);
    y -= newton / (1 + y * newton);
  }
  return static_cast<T>(std::copysign(y, x));
}

}  // namespace scalar
}  // namespace minimx
