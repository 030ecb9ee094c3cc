/* Drives edge_action.h for tests/test_action_gate.py: a request a line on standard input, its verdict a line on standard output. */
#include <inttypes.h>
#include <stdio.h>

#include "edge_report.h"

static void print(const char *what, const struct edge_action_verdict *verdict) {
  uint8_t body[EDGE_REPORT_BYTES];
  uint32_t length = edge_report_encode(body, sizeof(body), "continue", verdict);
  uint32_t i;
  printf("%s %d %d", what, (int)verdict->outcome, (int)verdict->rule);
  for (i = 0U; i < 3U; i++) {
    printf(" %a", verdict->granted[i] + 0.0);
  }
  if (length > 0U) {
    printf(" ");
  }
  for (i = 0U; i < length; i++) {
    printf("%02x", (unsigned)body[i]);
  }
  printf("\n");
}

int main(void) {
  struct edge_action gate;
  struct edge_action_verdict verdict;
  char what;
  char name[128];
  double v[3];
  int reason;
  int64_t now;
  uint32_t i;
  edge_action_init(&gate);
  if (!edge_action_set_max_speed(&gate, 5.0) || !edge_action_add_command(&gate, "climb", -1.0, 2.5, 0U) ||
      !edge_action_add_command(&gate, "tilt", 0.0, 0.25, 1U) || !edge_action_add_budget(&gate, "drop", 3U, 1U) ||
      !edge_action_add_budget(&gate, "never", 0U, 0U) || !edge_action_add_stop(&gate, "land")) {
    return 3;
  }
  if (edge_action_add_stop(&gate, "land") || edge_action_add_stop(&gate, "") || edge_action_set_max_speed(&gate, -1.0) ||
      edge_action_add_command(&gate, "none", 2.0, 1.0, 0U) || edge_action_add_budget(&gate, NULL, 1U, 0U)) {
    return 4;
  }
  if (!edge_action_set_unit(&gate, "climb", "m/s") || edge_action_set_unit(&gate, "drop", "m/s") ||
      edge_action_set_unit(&gate, "climb", "seventeen letters") || edge_action_set_unit(&gate, "climb", "\n")) {
    return 5;
  }
  while (scanf(" %c %127s %la %la %la %d %" SCNd64, &what, name, &v[0], &v[1], &v[2], &reason, &now) == 7) {
    if (what == 'v') {
      verdict = edge_action_velocity(&gate, v, (enum edge_lease_reason)reason, now);
    } else if (what == 'c') {
      verdict = edge_action_command(&gate, name, v[0], (enum edge_lease_reason)reason, now);
    } else if (what == 'a') {
      verdict = edge_action_perform(&gate, name, (enum edge_lease_reason)reason, now);
    } else {
      if (what == 'n') {
        edge_action_new_mission(&gate);
      }
      for (i = 0U; i < 9U; i++) {
        if (edge_action_flush(&gate, i, now, &verdict)) {
          print("flushed", &verdict);
        }
      }
      continue;
    }
    print("told", &verdict);
  }
  return 0;
}
