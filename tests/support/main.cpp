// SPDX-License-Identifier: Apache-2.0
// The main function of every Boost.Test program of ours.
#define BOOST_TEST_MODULE tidemark
#include <boost/test/unit_test.hpp>
