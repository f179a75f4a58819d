-- A domain of one's own in plain SQL: a shopping cart.
--
-- State, fold, declared events, commands.  Run it once in a database with the
-- extension: psql -f examples/shopping_cart.sql mydatabase

CREATE SCHEMA shop;

-- The state of a cart, as its events make it.
CREATE TYPE shop.cart AS (
    id uuid,
    items jsonb,            -- sku: quantity
    checked_out boolean
);

-- What happens to a cart.  The types say what the payloads look like.
CREATE DOMAIN shop.quantity AS int CHECK (VALUE > 0);
CREATE TYPE shop.item_added AS (sku text, quantity shop.quantity);
CREATE TYPE shop.item_removed AS (sku text);
CREATE TYPE shop.nothing AS ();

-- The state after one more event; NULL = the cart is gone.
CREATE FUNCTION shop.cart_apply(state shop.cart, event dugong.domain_event) RETURNS shop.cart
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE (event).type
        WHEN 'ItemAdded' THEN ROW(
            (event).aggregate_id,
            COALESCE((state).items, '{}') || jsonb_build_object(
                (event).payload ->> 'sku',
                COALESCE(((state).items ->> ((event).payload ->> 'sku'))::int, 0) + ((event).payload ->> 'quantity')::int),
            false)::shop.cart
        WHEN 'ItemRemoved' THEN ROW((state).id, (state).items - ((event).payload ->> 'sku'), false)::shop.cart
        WHEN 'CheckedOut' THEN ROW((state).id, (state).items, true)::shop.cart
        WHEN 'Discarded' THEN NULL
        ELSE state
    END;
END;

CREATE AGGREGATE shop.cart_fold(dugong.domain_event) (SFUNC = shop.cart_apply, STYPE = shop.cart);

SELECT dugong.create_aggregate_type('ShoppingCart', fold => 'shop.cart_fold(dugong.domain_event)', strict => true);
SELECT dugong.create_event_type('ShoppingCart', 'ItemAdded', payload_type => 'shop.item_added');
SELECT dugong.create_event_type('ShoppingCart', 'ItemRemoved', payload_type => 'shop.item_removed');
SELECT dugong.create_event_type('ShoppingCart', 'CheckedOut', payload_type => 'shop.nothing');
SELECT dugong.create_event_type('ShoppingCart', 'Discarded', payload_type => 'shop.nothing');

-- A command: load, check, append, return.
CREATE FUNCTION shop.add_item(cart_id uuid, sku text, quantity int, event_id uuid DEFAULT NULL) RETURNS shop.cart
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cart shop.cart := dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id, missing_ok => true);
BEGIN
    IF cart.checked_out THEN
        RAISE EXCEPTION 'cart % is checked out', cart_id USING ERRCODE = 'UG004';
    END IF;
    PERFORM dugong.append_event('ShoppingCart', cart_id, 'ItemAdded',
        jsonb_build_object('sku', sku, 'quantity', quantity), event_id => event_id);
    RETURN dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id);
END $$;

CREATE FUNCTION shop.remove_item(cart_id uuid, sku text, event_id uuid DEFAULT NULL) RETURNS shop.cart
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cart shop.cart := dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id);
BEGIN
    IF cart.checked_out THEN
        RAISE EXCEPTION 'cart % is checked out', cart_id USING ERRCODE = 'UG004';
    ELSIF NOT cart.items ? sku THEN
        RAISE EXCEPTION 'cart % holds no "%"', cart_id, sku USING ERRCODE = 'UG004';
    END IF;
    PERFORM dugong.append_event('ShoppingCart', cart_id, 'ItemRemoved', jsonb_build_object('sku', sku), event_id => event_id);
    RETURN dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id);
END $$;

CREATE FUNCTION shop.check_out(cart_id uuid, event_id uuid DEFAULT NULL) RETURNS shop.cart
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cart shop.cart := dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id);
BEGIN
    IF cart.checked_out THEN
        RAISE EXCEPTION 'cart % is checked out', cart_id USING ERRCODE = 'UG004';
    ELSIF cart.items = '{}' THEN
        RAISE EXCEPTION 'cart % is empty', cart_id USING ERRCODE = 'UG004';
    END IF;
    PERFORM dugong.append_event('ShoppingCart', cart_id, 'CheckedOut', '{}', event_id => event_id);
    RETURN dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id);
END $$;

CREATE FUNCTION shop.discard(cart_id uuid, event_id uuid DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dugong.load_for_update(NULL::shop.cart, 'ShoppingCart', cart_id);
    PERFORM dugong.append_event('ShoppingCart', cart_id, 'Discarded', '{}', event_id => event_id);
END $$;
