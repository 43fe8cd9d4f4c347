#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bare transport problems with known optima.
. "$(dirname "$0")/run.sh"

make_file npy "$work/c.npy" '<f4' 3,3 4,1,3,2,0,5,3,2,2
works 'exact' solve "$work/c.npy" --json -o "$work/p.npy"
at_most 'cost 5/3' "$(json cost | awk '{d = $1 - 5 / 3; print d < 0 ? -d : d}')" 1e-9
at_most 'gap' "$(json gap)" 1e-9
check 'converged' "$(json converged)" = True
make_file npy "$work/want.npy" '<f4' 3,3 0,0.33333334,0,0.33333334,0,0,0,0,0.33333334
at_most 'coupling' "$(make_file gap "$work/p.npy" "$work/want.npy")" 1e-7
make_file npy "$work/mu.npy" '<f8' 3 2,0,2
make_file npy "$work/nu.npy" '<f8' 3 1,2,1
works 'marginals' solve "$work/c.npy" --mu "$work/mu.npy" --nu "$work/nu.npy" --json
at_most 'cost 7/4' "$(json cost | awk '{d = $1 - 1.75; print d < 0 ? -d : d}')" 1e-9
works 'sinkhorn' solve "$work/c.npy" --solver sinkhorn --reg 0.01 --json
at_most 'sinkhorn: cost' "$(json cost | awk '{d = $1 - 5 / 3; print d < 0 ? -d : d}')" 1e-6
works 'a table' solve "$work/c.npy"
says 'a table: cost' '1.66666667'
works 'the last option wins' solve "$work/c.npy" --reg 5 --set solver.reg=0.01 --solver exact --solver sinkhorn --json
at_most 'the last option wins: cost' "$(json cost | awk '{d = $1 - 5 / 3; print d < 0 ? -d : d}')" 1e-6

works 'potentials out' solve "$work/c.npy" --save-u "$work/u.npy" --save-v "$work/v.npy" --json
check 'method' "$(json method)" = 'assignment: square, uniform masses; whole rows, being short'
at_most 'bound 5/3' "$(json bound | awk '{d = $1 - 5 / 3; print d < 0 ? -d : d}')" 1e-9
works 'potentials in' solve "$work/c.npy" --u "$work/u.npy" --v "$work/v.npy" --json
check 'method: from potentials' "$(json method)" = 'assignment: square, uniform masses; whole rows, being short, from potentials'
at_most 'from potentials: cost 5/3' "$(json cost | awk '{d = $1 - 5 / 3; print d < 0 ? -d : d}')" 1e-9
works 'the method in a table' solve "$work/c.npy" --v "$work/v.npy"
says 'the certificate in words' 'certified: no coupling costs less'
refuses 1 'exists' 'an existing --save-u' solve "$work/c.npy" --save-u "$work/u.npy"
make_file npy "$work/nan_v.npy" '<f8' 3 1,nan,0
refuses 1 'v[1] is nan' 'NaN in a potential' solve "$work/c.npy" --v "$work/nan_v.npy"
make_file npy "$work/short.npy" '<f8' 2 1,0
refuses 1 'u holds 2' 'a short potential' solve "$work/c.npy" --u "$work/short.npy"

refuses 1 'exists' 'an existing OUT' solve "$work/c.npy" -o "$work/p.npy"
make_file npy "$work/nan.npy" '<f4' 1,2 1,nan
refuses 1 'cost[0, 1]' 'NaN in the cost' solve "$work/nan.npy"
make_file npy "$work/neg.npy" '<f8' 3 2,-1,3
refuses 1 'negative' 'negative mass' solve "$work/c.npy" --mu "$work/neg.npy"
make_file npy "$work/inf.npy" '<f8' 3 1,inf,3
refuses 1 'mu' 'infinite mass' solve "$work/c.npy" --mu "$work/inf.npy"
make_file npy "$work/less.npy" '<f8' 3 1,1,1
refuses 1 'totals' 'unequal totals' solve "$work/c.npy" --mu "$work/mu.npy" --nu "$work/less.npy"
refuses 1 'matrix' 'a cost that is no matrix' solve "$work/mu.npy"
refuses 2 'nothing' 'an unknown solver' solve "$work/c.npy" --solver nothing
refuses 1 'strict' 'strict' solve "$work/c.npy" --solver sinkhorn --reg 0.5 --set solver.max_iterations=1 --set solver.strict=1
finish
