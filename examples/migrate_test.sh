#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# migrate_test.sh MIGRATE: its guest goes from one process to another, and counts on from where it was.
set -eu

folder=$(mktemp -d)
there=
trap 'kill $there 2>/dev/null || true; rm -rf "$folder"' EXIT
touch "$folder/there"
"$1" take "unix:$folder/socket" >"$folder/there" &
there=$!
until grep -q listening "$folder/there"; do kill -0 $there || exit 1; sleep 0.01; done
"$1" send "unix:$folder/socket" >"$folder/here"
wait $there
cat "$folder/here" "$folder/there"

left=$(sed -n 's/^the guest left, and had counted to //p' "$folder/here")
arrived=$(sed -n 's/^the guest runs here, and has counted to //p' "$folder/there")
went_on=$(sed -n 's/^and on to //p' "$folder/there")
[ "$left" -gt 1 ] && [ "$arrived" -gt "$left" ] && [ "$went_on" -gt "$arrived" ]
