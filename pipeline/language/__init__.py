"""What coordinator and clients say to one another, and what people write down."""
