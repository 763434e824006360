from geomatch.cli.app import main

main()
