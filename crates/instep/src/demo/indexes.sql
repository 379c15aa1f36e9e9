-- Created after the rows, which is quicker than keeping the indexes in order meanwhile.

CREATE INDEX model_manufacturer ON model (manufacturer_id);
CREATE INDEX car_model ON car (model_id);
CREATE INDEX ad_car ON ad (car_id);
CREATE INDEX ad_seller ON ad (seller_id);
CREATE INDEX ad_tag_tag ON ad_tag (tag_id);
CREATE INDEX block_seller ON block (seller_id);
