"""What Prometheus is told: `fleet` reads the database, `latency` counts requests, `views` answers `/metrics`."""
