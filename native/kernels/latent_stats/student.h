// Tails of Student's t.
#pragma once

namespace personascope {

// Two-sided p of Student's t.
double student_p(double t, double degrees_of_freedom);

}  // namespace personascope
