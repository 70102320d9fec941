#!/usr/bin/env bash
# Stops the lab's DCs by their process ids and removes the state.
# down.sh --after PID: waits until that process has gone first, so that a lab never outlives who started it.
[ -r "${AD_STATE:?folder of the lab}/env" ] || exit 0   # gone already, or not a lab of ours: touch nothing
. "$(dirname "$0")/common.sh"
if [ "${1:-}" = --after ]; then
  while kill -0 "$2" 2>/dev/null && [ -e "$AD_STATE/env" ]; do sleep 1; done
fi
stop_dc 2
stop_dc 1
rm -rf -- "$AD_STATE"
