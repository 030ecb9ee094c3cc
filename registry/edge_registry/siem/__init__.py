"""Events out to whoever watches a fleet's security: OCSF, ECS and CEF over syslog, and OpenTelemetry logs (docs/siem.md)."""
