"""The networks: Tri-Plane Mamba and what it is made of, and the networks it is compared with."""
