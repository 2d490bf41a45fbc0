"""What a run is: ledger of passes and seconds, store of finished work, run directory."""
