// One program of two translation units that instantiate the same templates: it links, and both compute the
// same.
#include <cstdio>

#include "train.hpp"

float loss_in_other_unit();

int main() {
  const float here = train_two_layers().after, there = loss_in_other_unit();
  std::printf("loss %g here, %g there\n", static_cast<double>(here), static_cast<double>(there));
  return here == there ? 0 : 1;
}
