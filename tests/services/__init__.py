"""The real services that tests run against, started for one test session and stopped after it."""
