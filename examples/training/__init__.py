"""What train_resnet50.py is made of, besides its loop: data.py, checkpoint.py, report.py, options.py."""
