// Four spheres, which gather on a ring and go around a fifth; +K says the time, from 0 to 1.
#version 3.7;
global_settings { assumed_gamma 1.0 }
camera { location <0, 4, -9> look_at <0, 0.8, 0> angle 40 }
light_source { <6, 10, -8> color rgb 1.1 }
light_source { <-8, 5, -4> color rgb 0.3 shadowless }
background { color rgb <0.07, 0.09, 0.14> }
plane { y, 0 texture { pigment { checker color rgb 0.75 color rgb 0.35 } finish { reflection 0.15 } } }
sphere { <0, 1, 0>, 1 texture { pigment { color rgb <0.9, 0.75, 0.3> } finish { reflection 0.35 specular 0.6 } } }
#declare N = 0;
#while (N < 4)
  #declare A = 2 * pi * (clock + N / 4);
  sphere {
    <2.4 * cos(A), 0.55 + 0.25 * sin(2 * A), 2.4 * sin(A)>, 0.55
    texture { pigment { color rgb <0.25 + 0.2 * N, 0.55 - 0.1 * N, 0.9 - 0.2 * N> } finish { reflection 0.2 specular 0.5 } }
  }
  #declare N = N + 1;
#end
