"""Pictures in and clips out: safe intake, preparation, artifacts, verification and conversion."""
