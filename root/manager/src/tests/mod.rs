mod definition;
