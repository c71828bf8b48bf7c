"""What tests of several kinds share. No tests here."""
